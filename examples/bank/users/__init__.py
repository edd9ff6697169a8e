"""The bank's user administration: what an administrator sees and changes of accounts. People keeps them."""
