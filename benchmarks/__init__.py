"""`make bench`: ratios against a peer or a raw limit measured in the same run. No part of the tests."""
