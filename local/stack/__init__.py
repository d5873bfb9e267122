"""AWS and Coiote on this machine, with the project's own template deployed between them.

Nothing of the project is replaced: the same template is deployed by the same `sam deploy` as to AWS. The functions are built of
the same source in one cargo call, in the profile of the crates' tests; with AS_DEPLOYED=1 by `sam build`, as for AWS. MiniStack
replaces AWS, and the local Coiote (local/coiote-sim) replaces Coiote.
"""
