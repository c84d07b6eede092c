"""The recording program: cameras in, chunks and index out; the only writer of media."""
