"""What people use today, beside this program: the same devices, the same CA, the same machine, in turns."""
