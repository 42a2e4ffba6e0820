"""The orders microservice, as seen from here."""
