{{- /*
A chart's values are in a section named after its component, so that one file serves all charts. They may also
be given without the section, as the umbrella chart hands them down; that wins. Both end up in the section.
Argument: list of .Values and the name of the section.
*/ -}}
{{- define "istio.section" -}}
{{- $values := index . 0 -}}
{{- $section := get $values (index . 1) -}}
{{- range $key := keys $section -}}
{{- if hasKey $values $key -}}
{{- include "istio.overlay" (list $section (dict $key (get $values $key))) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /*
Lays the second map over the first, in place. Not mergeOverwrite: it takes false, 0 and [] for nothing.
Argument: list of two maps.
*/ -}}
{{- define "istio.overlay" -}}
{{- $under := index . 0 -}}
{{- range $key, $value := index . 1 -}}
{{- $old := get $under $key -}}
{{- if and (kindIs "map" $value) (kindIs "map" $old) -}}
{{- include "istio.overlay" (list $old $value) -}}
{{- else -}}
{{- $_ := set $under $key $value -}}
{{- end -}}
{{- end -}}
{{- end -}}
