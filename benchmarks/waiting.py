"""Imported first by the scripts beside this one: their threads wait as those of `zolit` do."""

from zolit.threads import share_cores

share_cores()
