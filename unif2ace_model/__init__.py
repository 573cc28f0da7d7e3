"""What learns from a dataset of unif2ace_data: the attribute model that corrects a captioner."""

import unif2ace_data as unif2ace_data  # first: it keeps ONNX Runtime from reporting
