"""Does the diagnosis find what is wrong, say where, keep quiet about what is healthy, and mend it?

37 architectures times every kind of fault (rules G4 and G7), planted by code, each beside a healthy twin; and
healthy models of many kinds. On the same cases: the built-in rules of Amazon SageMaker Debugger and torch's anomaly mode.

    python benchmarks/fault_zoo.py [--only KIND] [--arch NAME] [--control TITLE] [--no-repair] [--verbose] [--write]

Goals: recall of kind and place at least 95 %, precision at least 98 %, no healthy model with a finding above info, and after a
repair a loss after 60 steps within 10 % of the healthy twin's in at least 90 % of the cases.
"""

from zoo.run import main

if __name__ == "__main__":
    main()
