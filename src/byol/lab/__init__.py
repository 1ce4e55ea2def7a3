"""The laboratory: tables of recipes, running them, what they found; and how fast a recipe is."""
