"""One file for each version, `vNNNN_what_it_brings.py`, never changed once released."""
