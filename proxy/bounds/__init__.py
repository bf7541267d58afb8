"""limits meters rates refusals standing windows"""
