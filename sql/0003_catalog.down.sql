-- SPDX-License-Identifier: Apache-2.0
drop table headgate.model_targets;
drop table headgate.models;
drop table headgate.provider_keys;
drop table headgate.providers;
