"""Who answers: instances, their states, and the pool that owns them."""
