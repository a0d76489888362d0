"""The one way to the provider: HTTP (`client`) and its words (`dialects`). Outcomes are values,
never exceptions.
"""
