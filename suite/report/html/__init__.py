"""The page of a folder as one HTML file: nothing is fetched, and all is made from records."""
