from sparsecnn.report.untrained import initial_variances


def test_before_training_a_picture_hardly_gets_through_sparse_convolutions_without_batch_norm():
    whole, bare = initial_variances("caltech"), initial_variances("caltech_no_batch_norm")
    assert list(whole) == ["SparseConvNet", "ConvNet"]
    # The first convolution starts from the same weights in both, and sees the same pictures.
    assert whole.loc["convolution 1"].tolist() == bare.loc["convolution 1"].tolist()
    assert (whole.loc["linear layer 1"] > 1e-2).all()
    assert bare.loc["linear layer 1", "ConvNet"] > 1e-5 > 1e-12 > bare.loc["linear layer 1", "SparseConvNet"]
