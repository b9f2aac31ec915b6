"""What ``lab conform`` tries of the endpoint picker protocol: a gateway before our picker, and any picker by itself."""
