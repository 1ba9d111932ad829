"""Labelled sets of synthetic images: made in shards, resumed, extended, read by TFDS."""
