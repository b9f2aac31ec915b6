"""Planted bugs: each is put into a copy of the lab, which is then judged by the lab as it is."""
