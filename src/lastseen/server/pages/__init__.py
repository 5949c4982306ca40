"""The pages: clients, visits, devices, keys, sites, accounts; their templates, styles and scripts."""
