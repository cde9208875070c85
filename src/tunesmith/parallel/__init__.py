"""What is done to a built model before it trains on its devices; knows no data and no loss."""
