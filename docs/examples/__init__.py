"""What the pages of "Add your own" show; the suite runs each against a lab that is up."""
