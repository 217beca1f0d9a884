"""Where bars come from: exchange, files, simulator."""
