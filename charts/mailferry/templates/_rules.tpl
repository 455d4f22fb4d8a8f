{{/*
The rights of the operator: the one list, for the ClusterRole or for the Role of each namespace. Every rule says why it is
there. There is no rule about Secrets, and no wildcard. Kubernetes lets nobody grant what they do not hold themselves, so
what the workers' Roles grant is a part of this list.
*/}}
{{- define "mailferry.rules" -}}
# The wishes: the operator reads them, and never writes them.
- apiGroups: [mailferry.dev]
  resources: [mailmigrations]
  verbs: [get, list, watch]
# How a migration stands.
- apiGroups: [mailferry.dev]
  resources: [mailmigrations/status]
  verbs: [patch]
# One object for each mailbox: made, kept in step with the plan, removed when the mailbox is not wanted any more.
- apiGroups: [mailferry.dev]
  resources: [mailboxmigrations]
  verbs: [get, list, watch, create, patch, delete]
# Phase and conditions of a mailbox; workers are granted the same for the mailboxes that they were given.
- apiGroups: [mailferry.dev]
  resources: [mailboxmigrations/status]
  verbs: [patch]
# The work: one Job for each discovery and each pass, suspended until its satellites are there, pruned when its result is kept.
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, patch, delete]
# Why a Job does not get on: an image that cannot be pulled, no node with room, memory that ran out.
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch]
# Work lists for the workers and the results that they hand back; workers are granted get and patch on their own ones.
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, list, watch, create, patch]
# The volume of a migration's ledger: looked at, and made where there is none. It goes with its MailMigration.
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get, create]
# Each Job has a ServiceAccount of its own, so that a worker can do no more than its own work. It goes with its Job.
- apiGroups: [""]
  resources: [serviceaccounts]
  verbs: [get, create]
# The rights of a Job's ServiceAccount, object by object. Without escalate and bind, no more than this list can be granted.
- apiGroups: [rbac.authorization.k8s.io]
  resources: [roles, rolebindings]
  verbs: [get, create]
# Events of changes, for `kubectl describe`; a repeated event is patched.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end -}}
