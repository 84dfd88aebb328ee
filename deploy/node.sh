# The environment in which a node starts Ray, and so that of every job: sourced, never run.
. ~/giblet_ray-venv/bin/activate
# Nobody without the token in ~/.ray/auth_token gets in.
export RAY_AUTH_MODE=token
export RAY_USAGE_STATS_ENABLED=0
# Places and secrets of the lab; see giblet_ray.env.example.
set -a
. ~/giblet_ray.env
set +a
ulimit -n "$(ulimit -Hn)"
