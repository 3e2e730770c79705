"""The fault zoo: models with one planted fault each, healthy models, and a judge that knows the answer."""
