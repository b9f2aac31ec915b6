"""Pages under load: trees of calls, which the caller units make, and what each page is judged by."""
