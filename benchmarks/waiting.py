"""Imported first by the scripts beside this one: their threads wait as those of `zolit` do."""

from zolit.threads import sleep_while_waiting

sleep_while_waiting()
