"""The edge: checks users' tokens in front of pages, limits each user, and says to callers who the user is."""
