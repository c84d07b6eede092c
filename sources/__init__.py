"""Where media comes from when it is not RTSP: files and what else `av` can open; knows nothing of storage."""
