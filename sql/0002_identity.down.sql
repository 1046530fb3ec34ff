-- SPDX-License-Identifier: Apache-2.0
drop table headgate.api_keys;
drop table headgate.projects;
drop table headgate.members;
drop table headgate.users;
drop table headgate.organizations;
