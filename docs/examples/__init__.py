"""The code that the pages of "Add your own" show. The test suite runs it against a running lab."""
