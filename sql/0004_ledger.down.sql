-- SPDX-License-Identifier: Apache-2.0
drop function headgate.ledger_make_partitions(integer);
drop function headgate.ledger_make_partition(text, date);
drop type headgate.request_in;
drop type headgate.attempt_in;
drop table headgate.prices;
drop table headgate.usage_rollups;
drop table headgate.attempts;
drop table headgate.requests;
