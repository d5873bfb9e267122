"""AWS and Coiote on this machine, with the project's own template deployed between them.

Nothing here stands in for the project: `sam deploy` is the one that deploys to AWS, on the same template. The functions are
built of the same source in one cargo call, in the profile of the crates' tests; with AS_DEPLOYED=1 by `sam build`, as for AWS.
What stands in for AWS is MiniStack, for Coiote the local Coiote (local/coiote-sim).
"""
