"""What a dataset says of itself: statistics, report, datasheet, a sample in the terminal, a contact sheet."""
