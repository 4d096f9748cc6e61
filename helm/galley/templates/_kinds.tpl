{{- /* Istio's kinds by group, which galley reads and writes the status of. */ -}}
{{- define "galley.kinds" -}}
authentication.istio.io: [meshpolicies, policies]
config.istio.io: [httpapispecbindings, httpapispecs, quotaspecbindings, quotaspecs]
extensions.istio.io: [trafficextensions, wasmplugins]
networking.istio.io: [destinationrules, envoyfilters, gateways, proxyconfigs, serviceentries, sidecars, virtualservices, workloadentries, workloadgroups]
rbac.istio.io: [clusterrbacconfigs, rbacconfigs, servicerolebindings, serviceroles]
security.istio.io: [authorizationpolicies, peerauthentications, requestauthentications]
telemetry.istio.io: [telemetries]
{{- end -}}
