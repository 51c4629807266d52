"""A local stand-in for PiAPI that really upscales, for demonstrations, tests and developers of agents.

It shares no code with the rest of the project: if it did, a wrong belief about PiAPI would be on both sides, and the
tests would confirm it.

Imitated as PiAPI documents it:

- the routes that create, read and cancel a task, read the account and the history, and upload a file; their envelope
- the limits and enumerations of the products
- the parents and the `actions` of Midjourney tasks
- the task states: pending, processing, then completed or failed
- money in points: frozen when a task is created, consumed when it completes, returned when it fails
- the plan's limit on concurrent tasks
- webhooks, with the secret in a header and another attempt after a failed delivery

Stricter than the documentation: a field that is not documented is refused.

Not imitated:

- the quality and speed of PiAPI's models: images are enlarged with a Lanczos filter, and `face_enhance` has no effect
- the status `staged`
- the generation of images
- the deletion of results
- host-your-account pools: `service_mode` is validated and echoed, nothing more
- webhooks on progress
- rate limits

Played on request, because PiAPI may do it and clients must survive it (see `state.Settings` and `state.Fault`):

- replies: `config` or `input` is not echoed, `output` is null, statuses are capitalised, fields are in camel case
- refusals: of a webhook secret without an endpoint, of all Midjourney requests
- prices: a `frozen` or `consume` that is not the real one, and that changes later
- time: a clock that is ahead or behind, in tasks, in the history, in webhooks and in the header `Date`
- tasks that exist but are not found: in the history, which lags, or by their id
- tasks whose reads fail with 500
- faults of single replies: any other answer, one of any length, a delay, a closed connection; tasks that fail

Assumed, because no source states it:

- the HTTP statuses of refusals: 400 for bad input, for too little credit and for the plan's limit; 401 for the key; 404
  for an unknown task
- most of the texts of refusals
- media is checked when a task is submitted
- "10 MB" means 10 * 2**20 bytes of media, before base64
- an image is charged by the pixels of its result
- the price of a Midjourney upscale
- a pending task of any product can be cancelled; it is then `failed`, and its price is returned
- the account info has an id of the account, in a field `account_id` [? 2026-11]
- a webhook secret without an endpoint is accepted and echoed, and calls no webhook [? 2026-11]
- media sent as base64 is not echoed in `input`
- the format of times in the history
- the names of the V4 actions

Every key that begins with `sandbox` has an account of its own, created by its first request. Keys that differ only
after a `~` belong to one account: `sandbox-a~new` has the balance, tasks and history of `sandbox-a`. The server listens
on loopback addresses only.

    server.py   starts and stops the server       control_client.py  controls a running sandbox from outside
    routes.py   the HTTP routes                   faults.py          injects faults into replies
    uploads.py  reads bodies and media            catalog.py         products, limits and prices
    state.py    accounts, tasks and settings      task_runner.py     runs tasks and delivers webhooks
    replies.py  the bodies of replies             media_jobs.py      media work, one child process per job
    fixtures.py the sample Midjourney tasks
"""
