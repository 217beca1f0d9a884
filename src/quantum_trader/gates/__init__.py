"""When does a shadow model earn a vote: pure statistics on arrays, numpy and scipy only."""
