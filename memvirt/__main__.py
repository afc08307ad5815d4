"""python -m memvirt"""

from memvirt.cli import main

main()
