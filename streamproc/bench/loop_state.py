"""How the closed loop's topology keeps its state: said by the environment of its processes."""

STATE = "STREAMPROC_BENCH_STATE"
#: The guarantee, by the jobs' names; empty where no state is kept at all.
JOBS = {"loop": "at_least_once", "loop-stateless": "", "loop-exact": "exactly_once"}
