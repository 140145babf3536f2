"""The API service: accounts, links and their click counts."""
