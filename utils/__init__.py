"""What two or more lessons share: shapes, configuration, corpora, plots, devices.

Import from the module that holds a thing (`from utils.shape_checker import check_shape`), so that
reading a configuration does not load PyTorch.
"""
