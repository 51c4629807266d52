"""A PiAPI of our own, on this machine, that really upscales; for demonstrations, tests and developers of agents.

It shares no code with the rest of the project: a wrong belief about PiAPI must not stand on both sides and agree with
itself.

What it does as PiAPI documents: the routes create, read, cancel, account, history and upload with their envelope; the
limits and enumerations of the products; parents and `actions` of Midjourney tasks; pending → processing → completed or
failed; money in points, frozen at creation, taken on completion, given back on failure; plan concurrency; webhooks
with the secret in a header. It refuses fields that are not documented.

What it does not imitate: how good or fast PiAPI's models are (pictures are enlarged with Lanczos), the `staged`
status, generation of images, deletion of results, host-your-account pools, and rate limits.

What is assumed, because nobody has written it down: the HTTP statuses of refusals (400 for bad input, too little credit
and the plan's limit, 401 for the key, 404 for an unknown task); that 10 MB are 10 * 2**20 bytes of media; that a
cancelled task is `failed` and gives its price back; what a Midjourney upscale costs; the names of the V4 actions.

A key that begins with `sandbox` is an account of its own, made at its first request. Only loopback addresses are
served.
"""
