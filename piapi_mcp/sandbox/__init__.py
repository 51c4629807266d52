"""A PiAPI of our own, on this machine, that really upscales; for demonstrations, tests and developers of agents.

It shares no code with the rest of the project: a wrong belief about PiAPI must not stand on both sides and agree with
itself.

What it does as PiAPI documents: the routes create, read, cancel, account, history and upload with their envelope; the
limits and enumerations of the products; parents and `actions` of Midjourney tasks; pending → processing → completed or
failed; money in points, frozen at creation, taken on completion, given back on failure; plan concurrency; webhooks
with the secret in a header, tried again when they fail. It refuses fields that are not documented.

What it does not imitate: how good or fast PiAPI's models are (images are enlarged with Lanczos, `face_enhance`
changes nothing), the `staged` status, generation of images, deletion of results, host-your-account pools
(`service_mode` is checked and shown), webhooks on progress, and rate limits.

What is assumed, because nobody has written it down: the HTTP statuses of refusals (400 for bad input, too little credit
and the plan's limit, 401 for the key, 404 for an unknown task) and most of their words; that media are checked at
submission; that 10 MB are 10 * 2**20 bytes of media; that images cost by the pixels of their result; what a Midjourney
upscale costs; that a task of any product can be cancelled while pending, is then `failed` and gives its price back;
that media in base64 are not echoed in `input`; the spelling of times in the history; the names of the V4 actions.

A key that begins with `sandbox` is an account of its own, made at its first request. Only loopback addresses are
served.

    server.py    starts and stops it                control.py   steers it from outside
    app.py       its routes                         faults.py    how it misbehaves when told to
    intake.py    what is sent to it                 products.py  what may be bought, and the price
    world.py     accounts, tasks, settings          runner.py    takes tasks to their end, tells webhooks
    samples.py   its Midjourney tasks               work.py      the work, a process for each job
"""
