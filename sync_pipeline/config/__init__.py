"""What the user decides: the environment (settings) and the rule table. The only reader of os.environ."""
