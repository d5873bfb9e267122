"""AWS and Coiote on this machine, with the project's own template deployed between them.

Nothing here stands in for the project: `sam build` and `sam deploy` are the ones that deploy to AWS, on the same
template. What stands in for AWS is MiniStack, for Coiote the local Coiote (local/coiote-sim).
"""
