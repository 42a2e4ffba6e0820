"""The drill: real processes sell and deliver while one fault follows another; at the end every promise is checked.

`python -m benchmarks.drill --minutes 3 --database sqlite|postgresql|pgbouncer`. It exits with 0 only if everything that
callers recorded was delivered once, the remote's journal agrees, memory stayed flat and no log holds a secret.
"""
