"""Some minutes on a GPU, used well: one command whose results are whole at every moment (`session`)."""
