"""One model over several hosts: who takes part, the seal, exchanges between hosts, rounds.

It knows neither nginx nor the zone, so it runs in any process. `interfaces` has the types that the
others share.

Who takes part: `membership`, `coordinator` and its process `service`, `probes`, `speeds`.
Connections: `seal`, `links`, `sealed_calls`, `reception`.
Exchanges of a group: `group`, `single_host`, `means`, `flat`, `formats`, `state_transfer`.
Rounds: `rounds`, `teams`, `lineage`, `digests`, `epochs`, `rollout`, `rollout_judge`, `store`.
Guests: `guests` at the members, `guest_rounds` at the guest.
"""
