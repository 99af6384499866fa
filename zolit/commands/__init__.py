"""The command line: what is asked, refused and answered; one file a command."""
