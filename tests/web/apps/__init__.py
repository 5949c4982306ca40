"""Small applications in several frameworks, all with the same routes, run by real servers in the tests."""
