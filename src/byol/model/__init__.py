"""The networks: encoder, projector, predictor, target."""
