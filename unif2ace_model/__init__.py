"""What learns from a dataset of unif2ace_data: the attribute model that corrects a captioner."""
