"""Joins: operators over rows of two inputs in one order, and tables that are looked up."""
