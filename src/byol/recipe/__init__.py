"""What a run computes, as frozen data; the named ones by data set."""
